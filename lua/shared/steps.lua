--@include clock
--@include keys
-- What takes several scripts: storing spans on a Cluster, and evicting them. Between the steps what is counted and what
-- is there differ, so an audit does not compare them then. Whoever is between steps is noted for as long as it can be.

local function begin_steps(token)
  for _, lost in ipairs(redis.call("ZRANGEBYSCORE", key("steps"), "-inf", now - TOKEN_SECONDS, "LIMIT", 0, 10)) do
    redis.call("ZREM", key("steps"), lost)
  end
  redis.call("ZADD", key("steps"), now_text, token)
end

-- Returns whether they had been begun, and not ended yet.
local function end_steps(token)
  return redis.call("ZREM", key("steps"), token) == 1
end

local function are_between_steps()
  return redis.call("ZCOUNT", key("steps"), now - TOKEN_SECONDS, "+inf") > 0
end
