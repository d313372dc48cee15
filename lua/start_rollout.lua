--[[
Create a rollout and its first attempt, past the queue.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] attempt_id      fresh id
ARGV[3] worker_id       worker to mark busy; "" when anonymous
ARGV[4] lease           seconds as text; "" when there is none
ARGV[5..] rollout       one run of arguments, see shared/requests.lua
Returns the rollout with its latest attempt, see shared/replies.lua; the stored one when the call is a repeat.
Errors: INVALID_REQUEST, ROLLOUT_NOT_FOUND when it was deleted before the call was sent again, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include creation
--@include health
--@include keys
--@include known_ids
--@include logs
--@include records
--@include replies
--@include requests
--@include status
--@include workers
local given, attempt_id, worker_id, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local item = parse_rollout(5)
local exists, invalid = check_rollout(item)
local failure = open(given, exists and "always" or "refusable")
if failure then
  return failure
end
settle_due(SETTLE_FEW)
if invalid then
  return invalid
elseif item.deleted then
  return redis.error_reply("ROLLOUT_NOT_FOUND Rollout " .. item.id .. " not found: it was deleted since")
end

if exists then
  if not redis.call("HGET", key("rollout", item.id), "latest") then
    return redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id .. " is queued; expected a new id")
  end
  local started = redis.call("EXISTS", key("attempt", item.id .. ":" .. attempt_id)) == 1
  return rollout_reply(item.id, started and attempt_id or nil)
end
local rollout = create_rollouts({ item }, NEW_ATTEMPT_ROLLOUT)[1]
local attempt = begin_attempt(rollout, attempt_id, worker_id, lease)
write(rollout)
update_worker_of(rollout, attempt, NEW_ATTEMPT_WORKER)
log_event(rollout, attempt, "started")
return begun_reply(rollout, attempt)
