--[[
Look at entries of a queue of which a walk along the list has seen too many or too few.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4] name            the queue
ARGV[5..] items         per rollout its id and how often it was seen in the list
Returns findings, see shared/findings.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include audit_waiting
--@include clock
--@include findings
--@include keys
--@include records
--@include rollouts
--@include status
--@include tokens
local given, repair, token, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local items = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)
local list = key("queue", name)

local function mend_missing(rollout)
  return function()
    if QUEUED[rollout.status] then
      put_back(rollout)
    else
      change(rollout, "queued", nil)
      write(rollout)
    end
  end
end

for i = 5, #items, 2 do
  local id, seen = items[i], tonumber(items[i + 1])
  local rollout = read_rollout(id)
  local is_mine = rollout and queue_name(rollout) == name
  local expected = is_mine and rollout.queued and 1 or 0
  -- One that is queued without its flag is a finding of the look at the rollout; its entry is in the right place.
  local is_told = is_mine and QUEUED[rollout.status] and not rollout.queued
  if expected ~= seen and not is_told then
    local count = #redis.call("LPOS", list, id, "COUNT", 0)
    if count > expected then
      find("queue", id, "lies " .. count .. " times in the list of queue " .. name .. ", expected " .. expected,
        function() redis.call("LREM", list, expected - count, id) end)
    elseif count < expected then
      find("queue", id, "is marked as lying in the list of queue " .. name .. ", but does not", mend_missing(rollout))
    end
  end
end
return end_findings(token)
