--[[
Look at the spans of a rollout, on a Cluster, before audit_rollouts looks at the rollout.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
ARGV[1] counted         how many spans the rollout counts
ARGV[2..] attempt_ids   its attempts
Returns what was seen, see shared/span_facts.lua.
Errors: none.
]]
--@include span_facts
local spans, span_ids = KEYS[1], KEYS[2]
local counted = ARGV[1]
local attempt_ids = ARGV
local ids = {}
for i = 2, #attempt_ids do
  ids[#ids + 1] = attempt_ids[i]
end
return span_facts(spans, span_ids, ids, counted)
