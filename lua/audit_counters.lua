--[[
Compare counters and wake-up tokens with what they count.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4] seen            what an earlier call has answered as state; "" when there was none
ARGV[5] queue_count     number of queues
ARGV[6..] items         names of the queues, then pairs of counter and true value, which were counted since that call
Returns {state, findings}: state is the same text as long as nothing changes that is counted. The true values are
compared only then; what can be counted at once is compared in any case.
Errors: SCHEMA_MISMATCH.
]]
--@include audit_delayed
--@include audit_lists
--@include clock
--@include counters
--@include findings
local given, repair, token, seen, queue_count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local items = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)
local state = state_of_counters()
for i = 6 + queue_count, state == seen and #items or 0, 2 do
  check_counter(items[i], tonumber(items[i + 1]))
end
if state ~= seen and seen ~= "" then
  check_total()
end
check_delayed()
for i = 6, 5 + queue_count do
  check_queue(items[i])
end
return { state, end_findings(token) }
