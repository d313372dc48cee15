--[[
Look at the spans of a rollout, on a Cluster, before audit_rollouts looks at the rollout.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
KEYS[3] deleted         what tells that the rollout is being deleted, and how many spans it had
ARGV[1] number          its creation number
ARGV[2..] attempt_ids   its attempts
Returns what was seen, see shared/span_facts.lua.
Errors: none.
]]
--@include span_facts
--@include spans
local spans, span_ids, deleted = KEYS[1], KEYS[2], KEYS[3]
local number = tonumber(ARGV[1])
local attempt_ids = ARGV
local ids = {}
for i = 2, #attempt_ids do
  ids[#ids + 1] = attempt_ids[i]
end
local removed, count = removed_number(deleted)
return span_facts(spans, span_ids, ids, removed and removed == number and count or 0)
