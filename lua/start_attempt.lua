--[[
Start another attempt of a rollout by hand, whatever its status.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] rollout_id      the rollout
ARGV[3] attempt_id      fresh id; one that the rollout has already marks a repeat
ARGV[4] worker_id       worker to mark busy; "" when anonymous
ARGV[5] lease           seconds as text; "" when there is none
Returns the rollout with that attempt, see shared/replies.lua.
Errors: ROLLOUT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include health
--@include keys
--@include logs
--@include records
--@include replies
--@include rollouts
--@include status
--@include workers
local given, rollout_id, attempt_id, worker_id, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local exists = redis.call("EXISTS", key("attempt", rollout_id .. ":" .. attempt_id)) == 1
local failure = open(given, exists and "always" or "refusable")
if failure then
  return failure
end
settle_due(SETTLE_FEW)

local rollout = read_rollout(rollout_id)
if not rollout then
  return not_found(rollout_id)
end
if exists then
  return rollout_reply(rollout_id, attempt_id)
end
local attempt = begin_attempt(rollout, attempt_id, worker_id, lease)
write(rollout)
update_worker_of(rollout, attempt, NEW_ATTEMPT_WORKER)
log_event(rollout, attempt, "started")
return begun_reply(rollout, attempt)
