--[[
Remove finished rollouts with all that belongs to them; on a Cluster after delete_spans has removed their spans.
KEYS[1] meta            meta hash of the namespace
KEYS[2..] spans         streams of their spans, in the same order; none on a Cluster
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3..] items         per rollout: its id, prefix of the sets of its span ids, and the completion that must be its
                        last; "" = any
Returns the ids of those that were removed, in the order given.
Errors: SCHEMA_MISMATCH.
]]
--@include attempt_lists
--@include clock
--@include deletion
--@include health
--@include repeats
--@include rollouts
--@include span_removal
local spans = KEYS
local given, token = ARGV[1], ARGV[2]
local items = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local deleted = {}
local answer = answered(token)
if answer then
  for id in string.gmatch(answer, "[^,]+") do
    deleted[#deleted + 1] = id
  end
  return deleted
end
settle_due(SETTLE_FEW)

for i = 3, #items, 3 do
  local rollout = read_rollout(items[i])
  if is_deletable(rollout, items[i + 2]) then
    local attempt_ids = ids_of_attempts(rollout.id, rollout.latest)
    local stream = spans[2 + (i - 3) / 3]
    if stream then
      remove_spans(stream, items[i + 1], attempt_ids)
    end
    delete_rollout(rollout, attempt_ids)
    deleted[#deleted + 1] = rollout.id
  end
end
remember(token, table.concat(deleted, ","))
return deleted
