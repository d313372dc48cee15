--@include clock
--@include ends
--@include logs
--@include records
--@include rollouts
--@include status
-- Signs of life.

-- Note a sign of life now. The lazy deadline may stay, for it only moves later; but a grace time, or a heartbeat that
-- somebody wrote ahead of time, put it off for longer, which has to be taken back in the index.
local function heartbeat(rollout, attempt)
  local put_off = attempt.grace_end or tonumber(attempt.beat or "0") > now
  change(attempt, "beat", now_text)
  change(attempt, "grace_end", nil)
  if put_off and rollout.latest == attempt.id then
    --@include deadlines
    index_deadline(rollout, attempt)
  end
end

-- Bring an attempt that speaks again to `status`; the latest one takes its rollout along. The lazy deadline of one that
-- lives may stay.
local function revive(rollout, attempt, status, cause)
  local rollout_status = rollout.status
  local was = attempt.status
  if status ~= was then
    set_attempt_status(rollout, attempt, status, nil)
  end
  if rollout.latest == attempt.id and status == REVIVED then
    rollout_status = ROLLOUT_AFTER_SPAN[rollout.status]
  end
  if rollout_status == rollout.status and status == was then
    return
  end
  if rollout_status ~= rollout.status then
    move(rollout, rollout_status, 0)
  end
  if rollout.latest == attempt.id and not LIVE[was] then
    --@include deadlines
    index_deadline(rollout, attempt)
  end
  log_event(rollout, attempt, cause)
end
