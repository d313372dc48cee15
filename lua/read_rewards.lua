--[[
Read the last reward of the latest attempt of rollouts.
KEYS[1] meta            meta hash of the namespace
ARGV[1..] rollout_ids   the rollouts
Returns per rollout its reward as text, "" when there is none.
Errors: none.
]]
--@include keys
local rollout_ids = ARGV
local rewards = {}
for i = 1, #rollout_ids do
  local latest = redis.call("HGET", key("rollout", rollout_ids[i]), "latest")
  rewards[i] = latest and redis.call("HGET", key("attempt", rollout_ids[i] .. ":" .. latest), "reward") or ""
end
return rewards
