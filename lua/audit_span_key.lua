--[[
Look at one key of the spans of a rollout on a Cluster, and remove it if its rollout was found not to exist since.
KEYS[1] name            the key
ARGV[1] repair          the state in which it was when it belonged to nothing, so that it can go; "" = only look
Returns {type, state, removed}: state is a text that stays the same as long as nothing is added; removed is 1 or 0.
Errors: none.
]]
local name, repair = KEYS[1], ARGV[1]
local found, state = redis.call("TYPE", name).ok, ""
if found == "stream" then
  local last = redis.call("XREVRANGE", name, "+", "-", "COUNT", 1)[1]
  state = redis.call("XLEN", name) .. "," .. (last and last[1] or "")
elseif found == "set" then
  state = tostring(redis.call("SCARD", name))
elseif found == "hash" then
  state = table.concat(redis.call("HGETALL", name), ",")
end
local goes = repair ~= "" and repair == state
return { found, state, goes and redis.call("DEL", name) or 0 }
