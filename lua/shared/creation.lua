--@include bulk
--@include clock
--@include keys
--@include new_records
-- Creating rollouts that were asked for, see requests.lua; the caller writes their records. What they have in common is
-- asked for once, and their indexes take them in one command.
local function create_rollouts(items, status)
  local number = redis.call("HINCRBY", META, "number", #items) - #items
  local resources = redis.call("HGET", META, "resources") or nil
  local rollouts, numbered, groups = {}, {}, {}
  for i, item in ipairs(items) do
    local rollout = item.fields
    rollout.id = item.id
    rollout.number = tostring(number + i)
    rollout.status = status
    rollout.start = now_text
    rollout.resources = rollout.resources or resources
    rollout.digest = item.digest ~= "" and item.digest or nil
    rollouts[i] = fresh(key("rollout", item.id), rollout)
    redis.call("SET", key("task", item.id), item.task)
    if item.metadata ~= "" then
      redis.call("SET", key("metadata", item.id), item.metadata)
    end
    append(numbered, rollout.number, item.id)
    if item.group ~= "" then
      groups[item.group] = groups[item.group] or {}
      append(groups[item.group], rollout.number, item.id)
    end
  end
  send_many("ZADD", key("rollouts"), numbered)
  send_many("ZADD", key("status", status), numbered)
  for group, members in pairs(groups) do
    send_many("ZADD", key("group", group), members)
  end
  return rollouts
end
