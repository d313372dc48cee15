-- Spans in the slot of their rollout. Their ids lie in sets per attempt: 16 hex digits as 64-bit integers in sets of at
-- most 512, which Redis keeps as sorted arrays of 8 bytes each; ids of any other form as text.
local IDS_PER_SET = 512

-- Marks in `known` the ids that are stored, and returns the number and the size of the set that takes new ones.
local function find_known(sets, ids, known)
  local set, size = 0, 0
  while #ids > 0 do
    local members = redis.call("SCARD", sets .. set)
    if members == 0 then
      break
    end
    size = members
    for i, found in ipairs(redis.call("SMISMEMBER", sets .. set, unpack(ids))) do
      known[ids[i]] = known[ids[i]] or found == 1
    end
    if members < IDS_PER_SET then
      return set, size
    end
    set, size = set + 1, 0
  end
  return set, size
end

-- Store the ids that are not known yet, and mark them in `new`.
local function claim_span_ids(sets, ids, new)
  local known = {}
  local set, size = find_known(sets, ids, known)
  for _, id in ipairs(ids) do
    if not known[id] then
      if size == IDS_PER_SET then
        set, size = set + 1, 0
      end
      redis.call("SADD", sets .. set, id)
      known[id], new[id], size = true, true, size + 1
    end
  end
end

-- End a script of a slot of spans before it writes, with an error, if the slot is on its way to another node: there
-- Redis refuses to look at what does not exist, and no key has the name of the prefix.
local function stop_if_moving(sets)
  redis.call("EXISTS", sets)
end
