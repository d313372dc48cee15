--[[
Store a snapshot of resources as the latest: a new id as version 1, a known one as its next version.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token; "" for a fresh id, where the id itself marks a repeat
ARGV[3] resources_id    the snapshot
ARGV[4] body            the resources as JSON
Returns {create_time, update_time, version, body} as stored.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include health
--@include keys
--@include repeats
local given, token, resources_id, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = key("resources", resources_id)
local known = redis.call("EXISTS", name) == 1
local is_repeat = known and token == "" or token ~= "" and answered(token)
local failure = open(given, is_repeat and "always" or "refusable")
if failure then
  return failure
end
if not is_repeat then
  if token ~= "" then
    settle_due(SETTLE_FEW)
    remember(token, "1")
  end
  if not known then
    redis.call("ZADD", key("resources"), redis.call("HINCRBY", META, "number", 1), resources_id)
    redis.call("HSET", name, "create", now_text)
  end
  redis.call("HINCRBY", name, "version", 1)
  redis.call("HSET", name, "update", now_text, "body", body)
  redis.call("HSET", META, "resources", resources_id)
end
return redis.call("HMGET", name, "create", "update", "version", "body")
