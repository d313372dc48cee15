--[[
Hand a claimed rollout back to the head of its queue, without counting an attempt.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      the attempt; without effect unless it is live and its unfinished rollout's latest
Returns the attempt, see shared/replies.lua.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include health
--@include replies
--@include repeats
local given, token, rollout_id, attempt_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local failure = open(given, "always")
if failure then
  return failure
end
if answered(token) then
  return attempt_reply(rollout_id, attempt_id)
end
settle_due(SETTLE_FEW, { [rollout_id] = true }, 1)

local rollout = read_rollout(rollout_id)
if not rollout then
  return not_found(rollout_id)
end
local attempt = read_attempt(rollout, attempt_id)
if not attempt then
  return redis.error_reply("ATTEMPT_NOT_FOUND Attempt " .. attempt_id .. " not found")
end
if rollout.latest == attempt_id and LIVE[attempt.status] and not FINISHED[rollout.status] then
  set_attempt_status(rollout, attempt, "failed", "released")
  if QUEUED[rollout.status] then
    leave_queue(rollout)
  end
  unlist(rollout)
  redis.call("ZREM", key("status", rollout.status), rollout_id)
  redis.call("ZADD", key("status", RETRY_STATUS), rollout.number, rollout_id)
  change(rollout, "status", RETRY_STATUS)
  change(rollout, "since", now_text)
  enlist(rollout, "LPUSH")
  update_worker_of(rollout, attempt, WORKER_AFTER_ATTEMPT[attempt.status])
  log_event(rollout, attempt, "released")
  write(attempt)
  write(rollout)
  index_deadline(rollout, attempt)
  remember(token, "1")
end
return attempt_reply(rollout_id, attempt_id)
