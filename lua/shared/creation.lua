--@include clock
--@include keys
--@include records
-- Creating a rollout that was asked for, see requests.lua; the caller writes its record.
local function create_rollout(item, status)
  local rollout = fresh(key("rollout", item.id))
  rollout.id = item.id
  change(rollout, "number", tostring(redis.call("HINCRBY", META, "number", 1)))
  change(rollout, "status", status)
  change(rollout, "start", now_text)
  for i = 1, #item.fields, 2 do
    change(rollout, item.fields[i], item.fields[i + 1])
  end
  if not rollout.resources then
    change(rollout, "resources", redis.call("HGET", META, "resources") or nil)
  end
  if item.digest ~= "" then
    change(rollout, "digest", item.digest)
  end
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
