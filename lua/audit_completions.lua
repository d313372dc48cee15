--[[
Look at entries of the completion log: each is noted by its rollout.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4..] entries       ids of the entries, as the log gave them
Returns findings, see shared/findings.lua. An entry that nobody notes becomes the finish of its rollout where that one
lacks it; else it goes.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include findings
--@include finishes
--@include keys
--@include records
--@include remains
--@include replies
--@include rollouts
--@include status
local given, repair, token = ARGV[1], ARGV[2], ARGV[3]
local entries = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)

local function lacks(rollout, status)
  return FINISHED[rollout.status] and rollout.status == status
    and logged(rollout, last_finish(rollout), "status") ~= status
end

local function check_entry(entry, fields)
  local id = field_of(fields, "rollout") or ""
  local rollout = read_rollout(id)
  local noted = rollout and string.find("," .. (rollout.done or "") .. ",", "," .. entry .. ",", 1, true)
  if noted or not rollout and has_remains(id) then
    return
  end
  find("completion", id, "has the entry " .. entry .. " in the completion log, which it does not note", function()
    if rollout and lacks(rollout, field_of(fields, "status")) then
      change(rollout, "done", rollout.done and (rollout.done .. "," .. entry) or entry)
      write(rollout)
    else
      redis.call("XDEL", key("completed"), entry)
    end
  end)
end

for i = 4, #entries do
  local found = redis.call("XRANGE", key("completed"), entries[i], entries[i])[1]
  if found then
    check_entry(found[1], found[2])
  end
end
return end_findings(token)
