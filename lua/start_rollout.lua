--[[
Create a rollout and its first attempt, past the queue.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] attempt_id      fresh id
ARGV[3] worker_id       worker to mark busy; "" when anonymous
ARGV[4] lease           seconds as text; "" when there is none
ARGV[5..] rollout       one run of arguments, see shared/creation.lua
Returns the rollout with its latest attempt, see shared/replies.lua; the stored one when the call is a repeat.
Errors: INVALID_REQUEST, SCHEMA_MISMATCH.
]]
--@include creation
--@include health
--@include replies
local given, attempt_id, worker_id, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local failure = open(given, "refusable")
if failure then
  return failure
end
settle_due(SETTLE_FEW)

local item = parse_rollout(5)
local exists
exists, failure = check_rollout(item)
if failure then
  return failure
end
if exists then
  if redis.call("EXISTS", key("attempts", item.id)) == 0 then
    return redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id .. " is queued; expected a new id")
  end
  return rollout_reply(item.id)
end

local rollout = create_rollout(item, "preparing")
local attempt = begin_attempt(rollout, attempt_id, worker_id, lease)
write(rollout)
update_worker_of(rollout, attempt, "busy")
log_event(rollout, attempt, "started")
return rollout_reply(item.id)
