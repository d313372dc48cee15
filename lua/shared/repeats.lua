--@include keys
-- Answers of recent operations by token: a call that is sent again takes effect once. Tokens live for longer than any
-- client repeats a call; the database must not evict (noeviction), which `lightning-store doctor` checks.
local function answered(token)
  return redis.call("GET", key("ops", token))
end

local function remember(token, answer)
  redis.call("SET", key("ops", token), answer, "EX", TOKEN_SECONDS)
end
