--[[
Read the attempts of a rollout, which is settled first if its deadline is due.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] rollout_id      the rollout
Returns its attempts by number, see shared/replies.lua; an empty list when it has none or is unknown.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include health
--@include keys
--@include replies
local given, rollout_id = ARGV[1], ARGV[2]
local failure = open(given, "read")
if failure then
  return failure
end
settle_if_due(rollout_id)
local replies = {}
for i, id in ipairs(redis.call("LRANGE", key("attempts", rollout_id), 0, -1)) do
  replies[i] = attempt_reply(rollout_id, id)
end
return replies
