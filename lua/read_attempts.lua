--[[
Read the attempts of a rollout, which is settled first if its deadline is due.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] rollout_id      the rollout
Returns its attempts by number, see shared/replies.lua; an empty list when it has none or is unknown.
Errors: SCHEMA_MISMATCH.
]]
--@include attempt_lists
--@include clock
--@include due
--@include keys
--@include replies
local given, rollout_id = ARGV[1], ARGV[2]
local failure = open(given, "read")
if failure then
  return failure
end
settle_if_due(rollout_id)
local replies = {}
local latest = redis.call("HGET", key("rollout", rollout_id), "latest")
for i, id in ipairs(ids_of_attempts(rollout_id, latest)) do
  replies[i] = attempt_reply(rollout_id, id)
end
return replies
