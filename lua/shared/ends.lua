--@include attempts
-- Ends of attempts: what they count, and what they make of their rollout.

local function add(record, field, by)
  local sum = tonumber(record[field] or "0") + by
  change(record, field, sum > 0 and tostring(sum) or nil)
end

-- Attempts that were released, and worker losses up to a limit, do not count as attempts; another status takes that back.
local function recount(rollout, attempt, cause)
  if attempt.uncounted then
    add(rollout, "uncounted", -1)
    add(rollout, "losses", attempt.uncounted == "lost" and -1 or 0)
    change(attempt, "uncounted", nil)
  end
  local lost = cause == "worker_lost" and tonumber(rollout.losses or "0") < tonumber(rollout.max_losses or "0")
  if lost or cause == "released" then
    change(attempt, "uncounted", lost and "lost" or "released")
    add(rollout, "uncounted", 1)
    add(rollout, "losses", lost and 1 or 0)
  end
end

local function set_attempt_status(rollout, attempt, status, cause)
  recount(rollout, attempt, cause)
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
