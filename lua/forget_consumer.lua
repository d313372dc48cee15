--[[
Remove a consumer of the completion log.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] consumer        its name
Returns 1 if it was registered, else 0.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
--@include repeats
local given, token, consumer = ARGV[1], ARGV[2], ARGV[3]
local failure = open(given, "always")
if failure then
  return failure
end
if answered(token) then
  return 1
end
local removed = redis.call("HDEL", key("consumers"), consumer)
if removed == 1 then
  remember(token, "1")
end
return removed
