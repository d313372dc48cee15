--[[
Look which of these ids belong to a rollout, or to what is left of one.
KEYS[1] meta            meta hash of the namespace
ARGV[1..] rollout_ids   the ids
Returns 1 or 0 per id.
Errors: none.
]]
--@include remains
local rollout_ids = ARGV
local remain = {}
for i = 1, #rollout_ids do
  remain[i] = has_remains(rollout_ids[i]) and 1 or 0
end
return remain
