--[[
Register a consumer of the completion log, or move its cursor forward.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] consumer        its name
ARGV[3] cursor          the last completion that it is done with
Returns {cursor, update_time} as stored.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include cursors
--@include health
--@include keys
local given, consumer, cursor = ARGV[1], ARGV[2], ARGV[3]
local failure = open(given, "always")
if failure then
  return failure
end
settle_due(SETTLE_FEW)
local stored = redis.call("HGET", key("consumers"), consumer)
if not stored or is_before(string.match(stored, "^%S+"), cursor) then
  stored = cursor .. " " .. now_text
  redis.call("HSET", key("consumers"), consumer, stored)
end
return { string.match(stored, "^(%S+) (.+)$") }
