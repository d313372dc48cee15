--[[
Look at keys by name: each has the type of its kind, and belongs to something that is there.
KEYS[1] meta            meta hash of the namespace
KEYS[2..] names         the keys
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4..] items         per key its kind, id, and type; "" for the type when the kind is not known
Returns findings, see shared/findings.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include audit_listed
--@include clock
--@include findings
--@include keys
--@include remains
local names = KEYS
local given, repair, token = ARGV[1], ARGV[2], ARGV[3]
local items = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)

local OF_ROLLOUT = { task = true, metadata = true, attempts = true, spans = true, spanids = true }

local function check_key(name, kind, id)
  local rollout_id, attempt_id = string.match(id, "^([^:]+):(.+)$")
  local owned = true
  if OF_ROLLOUT[kind] then
    owned = has_remains(id)
  elseif kind == "attempt" then
    owned = has_remains(rollout_id or "")
  elseif kind == "attempt_metadata" then
    owned = redis.call("EXISTS", key("attempt", id)) == 1
  elseif kind == "worker_stats" then
    owned = redis.call("EXISTS", key("worker", id)) == 1
  elseif kind == "resources" and id ~= "" and not redis.call("ZSCORE", key("resources"), id) then
    find("resources", id, "is missing from the index resources", function()
      redis.call("ZADD", key("resources"), redis.call("HINCRBY", META, "number", 1), id)
    end)
  elseif kind == "rollout" then
    local number = tonumber(redis.call("HGET", name, "number") or "")
    if number and not redis.call("ZSCORE", key("rollouts"), id) then
      check_member("status_index", "rollouts", id, number)
    end
  end
  if not owned then
    find("orphan", name, "belongs to nothing", function() redis.call("DEL", name) end)
  elseif kind == "attempt" and has_record(rollout_id) then
    check_listed(name, rollout_id, attempt_id)
  end
end

for i = 4, #items, 3 do
  local name = names[2 + (i - 4) / 3]
  local found = redis.call("TYPE", name).ok
  if found ~= "none" and found ~= items[i + 2] then
    local expected = items[i + 2] == "" and " of no kind of ours" or ", not a " .. items[i + 2]
    find("orphan", name, "is a " .. found .. expected)
  elseif found ~= "none" then
    check_key(name, items[i], items[i + 1])
  end
end
return end_findings(token)
