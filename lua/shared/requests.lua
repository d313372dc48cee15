--@include keys
--@include repeats
-- Requests for new rollouts. Each travels as a run of arguments:
--   id, digest, task, metadata, group, n, then n times field and value of its hash
-- digest tells whether a caller's own id is used again for the same task; "" when the client made the id. "" also
-- stands for no metadata and no group.
local function parse_rollout(at)
  local item = { id = ARGV[at], digest = ARGV[at + 1], task = ARGV[at + 2], metadata = ARGV[at + 3],
    group = ARGV[at + 4], fields = {} }
  local after = at + 6 + 2 * tonumber(ARGV[at + 5])
  for i = at + 6, after - 1, 2 do
    item.fields[ARGV[i]] = ARGV[i + 1]
  end
  return item, after
end

-- An id that exists is a repeat if the client made it, or if its task is the same. So is one that the client made and
-- that was deleted lately: what its creation answered then stands in item.deleted. Returns whether it exists or did, or
-- an error reply.
local function check_rollout(item)
  local stored = redis.call("HMGET", key("rollout", item.id), "status", "digest")
  if stored[1] and item.digest ~= "" and stored[2] ~= item.digest then
    return nil, redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id ..
      " exists with another input or config; expected a new id or the same task")
  end
  if not stored[1] and item.digest == "" then
    item.deleted = answered(item.id)
  end
  return (stored[1] or item.deleted) and true or false
end

-- All rollouts from an argument on, and the set of the ids that are to be created; or an error reply.
local function parse_rollouts(at)
  local items, new_ids, seen = {}, {}, {}
  while at <= #ARGV do
    local item, exists, failure
    item, at = parse_rollout(at)
    exists, failure = check_rollout(item)
    if not failure and seen[item.id] and seen[item.id] ~= item.digest then
      failure = redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id .. " is given twice for different tasks")
    end
    if failure then
      return items, new_ids, failure
    end
    seen[item.id] = item.digest
    new_ids[item.id] = not exists or nil
    items[#items + 1] = item
  end
  return items, new_ids
end
