--[[
Look at the spans of a rollout, on a Cluster, before audit_rollouts looks at the rollout.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
KEYS[3] deleted         what tells that the rollout is being deleted
ARGV[1] number          its creation number
ARGV[2] counted         how many spans it counts
ARGV[3] step            who has begun steps last and not ended them, see shared/steps.lua; "" = nobody
ARGV[4..] attempt_ids   its attempts
Returns what was seen, see shared/span_facts.lua. Spans that a deletion has removed, which is not at its end, are there:
the rollout still counts them.
Errors: none.
]]
--@include span_facts
local spans, span_ids, deleted = KEYS[1], KEYS[2], KEYS[3]
local number, counted, step = ARGV[1], ARGV[2], ARGV[3]
local attempt_ids = ARGV
local ids = {}
for i = 4, #attempt_ids do
  ids[#ids + 1] = attempt_ids[i]
end
if redis.call("GET", deleted) == number then
  return table.concat({ #ids, counted, counted, counted, "", step }, ",")
end
return span_facts(spans, span_ids, ids, counted, step)
