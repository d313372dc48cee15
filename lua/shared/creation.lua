--@include attempts
-- Creating rollouts. A new rollout travels as a run of arguments:
--   id, digest, task, metadata, group, n, then n times field and value of its hash
-- digest tells whether a caller's own id is used again for the same task; "" when the client made the id. "" also
-- stands for no metadata and no group.
local function parse_rollout(at)
  local item = { id = ARGV[at], digest = ARGV[at + 1], task = ARGV[at + 2], metadata = ARGV[at + 3],
    group = ARGV[at + 4], fields = {} }
  local after = at + 6 + 2 * tonumber(ARGV[at + 5])
  for i = at + 6, after - 1 do
    item.fields[#item.fields + 1] = ARGV[i]
  end
  return item, after
end

-- An id that exists is a repeat if the client made it, or if its task is the same. Returns whether it exists, or an
-- error reply.
local function check_rollout(item)
  local stored = redis.call("HMGET", key("rollout", item.id), "status", "digest")
  if stored[1] and item.digest ~= "" and stored[2] ~= item.digest then
    return nil, redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id ..
      " exists with another input or config; expected a new id or the same task")
  end
  return stored[1] and true or false
end

local function create_rollout(item, status)
  local number = redis.call("HINCRBY", META, "number", 1)
  redis.call("HSET", key("rollout", item.id), "number", number, "status", status, "start", now_text, unpack(item.fields))
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
