--[[
Look at members of an index: each is the id of a record.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4] rule            name of the rule for the findings
ARGV[5] index           kind and name of the index, as "deadlines" or "group:g"
ARGV[6] group           name of the group that the members must be of; "" when it is no index of a group
ARGV[7] kind            kind of the records: "rollout", "worker" or "resources"
ARGV[8..] ids           the members
Returns findings, see shared/findings.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include findings
--@include keys
--@include remains
local given, repair, token, rule, index, group, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local ids = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)

local function belongs(id)
  if kind ~= "rollout" then
    return redis.call("EXISTS", key(kind, id)) == 1
  elseif not has_record(id) then
    return has_remains(id)
  end
  return group == "" or redis.call("HGET", key(kind, id), "group") == group
end

for i = 8, #ids do
  if redis.call("ZSCORE", key(index), ids[i]) and not belongs(ids[i]) then
    check_member(rule, index, ids[i])
  end
end
return end_findings(token)
