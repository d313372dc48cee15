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
--@include attempts
--@include clock
--@include deadlines
--@include ends
--@include health
--@include keys
--@include logs
--@include queue
--@include records
--@include repeats
--@include replies
--@include rollouts
--@include status
--@include tokens
--@include workers
local given, token, rollout_id, attempt_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local failure = open(given, "always")
if failure then
  return failure
end
local answer = answered(token)
if not answer then
  settle_due(SETTLE_FEW, rollout_id)
end

local rollout = read_rollout(rollout_id)
if not rollout then
  return not_found(rollout_id)
end
local attempt = read_attempt(rollout, attempt_id)
if not attempt then
  return attempt_not_found(attempt_id)
end
if not answer and rollout.latest == attempt_id and LIVE[attempt.status] and not FINISHED[rollout.status] then
  set_attempt_status(rollout, attempt, RELEASED, RELEASED_CAUSE)
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
  log_event(rollout, attempt, attempt.cause)
  write(attempt)
  write(rollout)
  index_deadline(rollout, attempt)
  remember(token, "1")
end
return attempt_reply(rollout_id, attempt_id, attempt)
