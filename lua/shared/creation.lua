--@include clock
--@include keys
--@include records
-- Creating a rollout that was asked for, see requests.lua; the caller writes its record.
local function create_rollout(item, status)
  local rollout = fresh(key("rollout", item.id), item.fields)
  rollout.id = item.id
  rollout.number = tostring(redis.call("HINCRBY", META, "number", 1))
  rollout.status = status
  rollout.start = now_text
  rollout.resources = rollout.resources or redis.call("HGET", META, "resources") or nil
  rollout.digest = item.digest ~= "" and item.digest or nil
  redis.call("SET", key("task", item.id), item.task)
  if item.metadata ~= "" then
    redis.call("SET", key("metadata", item.id), item.metadata)
  end
  redis.call("ZADD", key("rollouts"), rollout.number, item.id)
  redis.call("ZADD", key("status", status), rollout.number, item.id)
  if item.group ~= "" then
    redis.call("ZADD", key("group", item.group), rollout.number, item.id)
  end
  return rollout
end
