--[[
Compare counters and wake-up tokens with what they count.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4] seen            the state that an earlier call has answered; "" when there was none
ARGV[5] queue_count     number of queues
ARGV[6..] items         names of the queues, then pairs of counter and true value, which were counted since that call
Returns {is_still, state, findings}: state is the same text as long as nothing changes that is counted; is_still is 1 if
it is the one that was seen, and nobody is between steps, see shared/steps.lua. Only then the true values are compared;
else the counters of queues that are short enough to be counted at once.
Errors: SCHEMA_MISMATCH.
]]
--@include audit_delayed
--@include audit_lists
--@include clock
--@include counters
--@include findings
--@include steps
local given, repair, token, seen, queue_count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local items = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)
local is_still = state_of_counters() == seen and not are_between_steps()
if is_still then
  for i = 6 + queue_count, #items, 2 do
    check_counter(items[i], tonumber(items[i + 1]))
  end
elseif seen ~= "" then
  check_total()
  check_delayed()
end
for i = 6, 5 + queue_count do
  if not is_still then
    check_list(items[i])
  end
  check_tokens(items[i])
end
return { is_still and 1 or 0, state_of_counters(), end_findings(token) }
