--[[
Look at the meta hash: the last creation number is the highest, and the latest resources are there.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
Returns findings, see shared/findings.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include findings
--@include keys
local given, repair, token = ARGV[1], ARGV[2], ARGV[3]
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
begin_findings(repair, token)
for _, index in ipairs({ "rollouts", "workers", "resources" }) do
  local highest = redis.call("ZREVRANGE", key(index), 0, 0, "WITHSCORES")[2]
  if highest and tonumber(highest) > tonumber(redis.call("HGET", META, "number") or "0") then
    find("counter", "number", "is below " .. highest, function() redis.call("HSET", META, "number", highest) end)
  end
end
local latest = redis.call("HGET", META, "resources")
if latest and redis.call("EXISTS", key("resources", latest)) == 0 then
  find("resources", latest, "is noted as the latest, and does not exist")
end
return end_findings(token)
