--@include ends
-- Signs of life.

-- Note a sign of life now. The lazy deadline may stay, for it only moves later; but a grace time that ends sooner than
-- noted in the index has to be taken back there.
local function heartbeat(rollout, attempt)
  change(attempt, "beat", now_text)
  if attempt.grace_end then
    change(attempt, "grace_end", nil)
    if rollout.latest == attempt.id then
      index_deadline(rollout, attempt)
    end
  end
end

-- Bring an attempt that speaks again to `status`; the latest one takes its rollout along.
local function revive(rollout, attempt, status, cause)
  local rollout_status = rollout.status
  local was = attempt.status
  if status ~= was then
    set_attempt_status(rollout, attempt, status, nil)
  end
  if rollout.latest == attempt.id and status == "running" then
    rollout_status = ROLLOUT_AFTER_SPAN[rollout.status]
  end
  if rollout_status == rollout.status and status == was then
    return
  end
  if rollout_status ~= rollout.status then
    move(rollout, rollout_status, 0)
  end
  if rollout.latest == attempt.id then
    index_deadline(rollout, attempt)
  end
  log_event(rollout, attempt, cause)
end
