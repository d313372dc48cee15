--@include bulk
--@include keys
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

-- Whether none of the ids exists or was deleted lately, which is known in a few calls.
local function are_new(items)
  local names = {}
  for _, item in ipairs(items) do
    append(names, key("rollout", item.id), key("ops", item.id))
  end
  return send_many("EXISTS", key("nothing"), names) == 0
end

-- All rollouts from an argument on, and the set of the ids that are to be created; or an error reply.
local function parse_rollouts(at)
  local items, new_ids, seen = {}, {}, {}
  while at <= #ARGV do
    items[#items + 1], at = parse_rollout(at)
  end
  local all_new = are_new(items)
  for _, item in ipairs(items) do
    local exists, failure = false, nil
    if not all_new then
      --@include known_ids
      exists, failure = check_rollout(item)
    end
    if not failure and seen[item.id] and seen[item.id] ~= item.digest then
      failure = redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id .. " is given twice for different tasks")
    end
    if failure then
      return items, new_ids, failure
    end
    seen[item.id] = item.digest
    new_ids[item.id] = not exists or nil
  end
  return items, new_ids
end
