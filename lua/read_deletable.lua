--[[
Look which rollouts may be deleted, before their spans are, which on a Cluster lie in slots of their own.
KEYS[1] meta            meta hash of the namespace
ARGV[1..] items         per rollout: its id, and the completion that must be its last; "" = any
Returns per rollout {number, attempt_ids}: its creation number and the ids of its attempts; {} when it has to stay.
Errors: none.
]]
--@include attempt_lists
--@include deletion
--@include keys
--@include rollouts
local items = ARGV
redis.call("LLEN", key("nothing")) -- the spans have to stay as long as the slot is on its way, see open()
local found = {}
for i = 1, #items, 2 do
  local rollout = read_rollout(items[i])
  local goes = is_deletable(rollout, items[i + 1])
  found[#found + 1] = goes and { rollout.number, ids_of_attempts(rollout.id, rollout.latest) } or {}
end
return found
