--[[
The first of three steps that store spans of one attempt on a Cluster: check the attempt, and set numbers aside.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      the attempt
ARGV[5] call            comma-separated rollouts of the whole call, which are not settled
ARGV[6] wanted          how many next numbers of the rollout to set aside
ARGV[7] highest         highest number that the caller has chosen; "" when none
Returns {before, after, number, kept}: up to where the rollout counted before and counts now; its creation number; "1"
when the spans are kept, "0" when those of the attempt were evicted.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include clock
--@include noting
--@include numbers
--@include records
--@include repeats
--@include speakers
--@include steps
local given, token, rollout_id, attempt_id, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local wanted, highest = tonumber(ARGV[6]), ARGV[7]
local answer = answered(token)
local failure = open(given, answer and "always" or "refusable")
if failure then
  return failure
end
if answer then
  return { string.match(answer, "(.*),(.*),(.*),(.*)") }
end
local rollout, attempt, unknown = speaker(rollout_id, attempt_id, call)
if unknown then
  return unknown
end
local before = rollout.spans or "0"
for _ = 1, wanted do
  next_number(rollout)
end
if highest ~= "" then
  note_number(rollout, highest)
end
local noted = { before, rollout.spans or "0", rollout.number, are_kept(rollout, attempt) and "1" or "0" }
write(rollout)
begin_steps(token)
remember(token, table.concat(noted, ","))
return noted
