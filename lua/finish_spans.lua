--[[
The last of three steps that store spans of one attempt on a Cluster: what was appended counts, and is a sign of life.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token of the first step
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      the attempt
ARGV[5] after           up to where the rollout counted after the first step
ARGV[6] used            up to where it has to count, if nobody has counted on since
ARGV[7] count_new       how many spans were new
ARGV[8] count_appended  how many of them were appended
ARGV[9] reward          last reward of the attempt; "" when these spans have none
ARGV[10] reward_number  number of the span that has it
Returns 1.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include noting
--@include records
--@include rollouts
--@include steps
local given, token, rollout_id, attempt_id, after, used = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local count_new, count_appended, reward, reward_number = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]
local failure = open(given, "always")
if failure then
  return failure
end
if not end_steps(token) then
  return 1 -- a call that is sent again
end
local rollout = read_rollout(rollout_id)
if not rollout then
  return not_found(rollout_id)
end
local attempt = read_attempt(rollout, attempt_id)
if not attempt then
  return attempt_not_found(attempt_id)
end
if rollout.spans == after then
  change(rollout, "spans", used ~= "0" and used or nil)
end
note_reward(attempt, reward, reward_number)
if count_new > 0 then
  note_new_spans(rollout, attempt, count_new, count_appended)
end
write(attempt)
write(rollout)
return 1
