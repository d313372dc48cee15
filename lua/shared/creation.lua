--@include clock
--@include keys
--@include records
--@include rollouts
-- Creating a rollout that was asked for, see requests.lua.
local function create_rollout(item, status)
  local number = redis.call("HINCRBY", META, "number", 1)
  local name = key("rollout", item.id)
  redis.call("HSET", name, "number", number, "status", status, "start", now_text, unpack(item.fields))
  redis.call("SET", key("task", item.id), item.task)
  if item.metadata ~= "" then
    redis.call("SET", key("metadata", item.id), item.metadata)
  end
  redis.call("ZADD", key("rollouts"), number, item.id)
  redis.call("ZADD", key("status", status), number, item.id)
  if item.group ~= "" then
    redis.call("ZADD", key("group", item.group), number, item.id)
  end
  local rollout = read_rollout(item.id)
  if not rollout.resources then
    change(rollout, "resources", redis.call("HGET", META, "resources") or nil)
  end
  if item.digest ~= "" then
    change(rollout, "digest", item.digest)
  end
  return rollout
end
