--[[
Store spans of one attempt; a sign of life of the attempt if any of them is new. On a Cluster, where a rollout's spans
lie in a slot of their own, begin_spans, append_spans and finish_spans do the same.
KEYS[1] meta            meta hash of the namespace
KEYS[2] spans           stream of the rollout's spans
KEYS[3] span_ids        prefix of the sets of its span ids
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      the attempt
ARGV[5] renumber        "1" = number new spans with the next numbers of the rollout, "" = as given
ARGV[6] call            comma-separated rollouts of the whole call, which are not settled
ARGV[7..] items         the spans, see shared/appending.lua
Returns per span its sequence_id as text, "" for a duplicate.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include appending
--@include clock
--@include noting
--@include numbers
--@include records
--@include repeats
--@include speakers
local spans, span_ids = KEYS[2], KEYS[3]
local given, token, rollout_id, attempt_id, renumber, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local items = ARGV
local answer = answered(token)
local failure = open(given, answer and "always" or "refusable")
if failure then
  return failure
end
if answer then
  local stored = {}
  for number in string.gmatch(answer, "([^,]*),") do
    stored[#stored + 1] = number
  end
  return stored
end
local rollout, attempt, unknown = speaker(rollout_id, attempt_id, call)
if unknown then
  return unknown
end

local function number_of(number, reward)
  if renumber == "1" then
    number = next_number(rollout)
  else
    note_number(rollout, number)
  end
  note_reward(attempt, reward, number)
  return number
end
local is_kept = are_kept(rollout, attempt)
local stored, count_new = append_new(spans, span_ids, attempt_id, items, 7, number_of, is_kept)
if count_new > 0 then
  note_new_spans(rollout, attempt, count_new, is_kept and count_new or 0)
  write(attempt)
  write(rollout)
  remember(token, table.concat(stored, ",") .. ",")
end
return stored
