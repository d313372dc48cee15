--@include keys
--@include tokens
-- Tokens are hints: not more than live entries, and at least one where entries are left, so that they wake somebody.
local function reconcile(name)
  local live = tonumber(redis.call("HGET", key("stats"), "queue:" .. name) or "0")
  local tokens = redis.call("LLEN", key("wake", name))
  if tokens > live then
    redis.call("LTRIM", key("wake", name), tokens - live, -1)
  elseif tokens == 0 then
    offer(name, live)
  end
end
