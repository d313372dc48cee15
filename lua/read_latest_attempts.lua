--[[
Read the latest attempts' ids of rollouts, each settled first if its deadline is due.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2..] rollout_ids   the rollouts
Returns per rollout the id of its latest attempt; "" when it has none or is unknown.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include health
--@include keys
local given = ARGV[1]
local rollout_ids = ARGV
local failure = open(given, "read")
if failure then
  return failure
end
local latest = {}
for i = 2, #rollout_ids do
  settle_if_due(rollout_ids[i])
  latest[#latest + 1] = redis.call("HGET", key("rollout", rollout_ids[i]), "latest") or ""
end
return latest
