--@include clock
--@include records
--@include rollouts
--@include status
-- Ends of attempts, and what they make of their rollout.
local function set_attempt_status(rollout, attempt, status, cause)
  if attempt.uncounted or cause == CAUSE_OF_END[SILENT] or cause == RELEASED_CAUSE then
    --@include uncounted
    recount(rollout, attempt, cause)
  end
  change(attempt, "status", status)
  change(attempt, "cause", cause)
  if STAMPS_END_TIME[status] then
    change(attempt, "end", now_text)
  end
end

local function may_retry(rollout, attempt)
  if attempt.uncounted then
    return true
  end
  local tried = tonumber(attempt.number) - tonumber(rollout.uncounted or "0")
  local listed = string.find("," .. (rollout.retry or "") .. ",", "," .. attempt.status .. ",", 1, true)
  return listed and tried < tonumber(rollout.max_attempts or "1")
end

-- Move an unfinished rollout to where its latest attempt puts it.
local function follow_attempt(rollout, attempt)
  if FINISHED[rollout.status] then
    return
  end
  local status = ROLLOUT_AFTER_ATTEMPT[attempt.status]
  if RETRYABLE[attempt.status] and may_retry(rollout, attempt) then
    status = RETRY_STATUS
  end
  if status ~= rollout.status then
    move(rollout, status, tonumber(rollout.delay or "0"))
  end
end
