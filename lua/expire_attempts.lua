--[[
Settle deadlines that are due and move delayed retries that are ready to their queues.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] limit           most deadlines to look at
Returns {more, next, transitions}: more is 1 when further ones are due; next is the seconds, as text, until the next
deadline or delayed retry, "" when there is none; a transition is {rollout_id, attempt_id, worker_id, attempt status,
rollout status, cause, seconds late}.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include delays
--@include expiry
--@include health
local given, limit = ARGV[1], tonumber(ARGV[2])
local failure = open(given, "always")
if failure then
  return failure
end
settle_due(limit)
ready_retries(limit)
local seconds, more = next_due()
return { more, seconds, transitions }
