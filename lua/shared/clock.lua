--@include keys
-- The time of this script, set by open(): never before the last time of the namespace, so that it does not run
-- backwards after a failover. When the store was reached again after nobody could reach it stands in the meta hash, as
-- `resumed`.
local now, now_text

-- Times travel as text with six decimals; tostring() would keep 14 digits only.
local function text_of(seconds)
  return string.format("%.6f", seconds)
end

-- Read the clock and note it. Every script begins with this. Returns an error reply, or nil.
--   given  seconds as text; "" reads the server's clock
-- In a slot that is on its way to another node, Redis refuses to look at what does not exist. So before the first write
-- a script looks for a key that never does, and has written nothing when it cannot go on.
--   mode   "refusable": the first write is one that Redis refuses when memory is full, so nothing is half-written
--          "always": a DEL of nothing comes first, after which Redis lets all writes of the script pass
--          "read": like "always", but the time is noted once a second only
local function open(given, mode)
  local meta = redis.call("HMGET", META, "schema", "now")
  if meta[1] and meta[1] ~= SCHEMA then
    return redis.error_reply("SCHEMA_MISMATCH the namespace has schema " .. meta[1] .. ", expected " .. SCHEMA)
  end
  if given == "" then
    local time = redis.call("TIME")
    now_text = time[1] .. "." .. string.sub("00000" .. time[2], -6)
  else
    now_text = text_of(tonumber(given))
  end
  now = tonumber(now_text)
  local last = meta[2] and tonumber(meta[2])
  if last and now < last then
    now, now_text = last, text_of(last)
  end
  if mode == "read" and (not last or now - last <= 1) then
    return nil
  end
  if mode == "refusable" then
    redis.call("LLEN", key("nothing"))
  else
    redis.call("DEL", key("nothing"))
  end
  redis.call("HSET", META, "schema", SCHEMA, "now", now_text)
  if last and now - last > GRACE_SECONDS then
    redis.call("HSET", META, "resumed", now_text)
  end
  return nil
end
