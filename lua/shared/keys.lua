-- Names of keys; their types and fields are listed in lightning_store/backends/redis/keys.py.
-- KEYS[1] is the namespace's meta hash. The rest of the control plane shares its prefix, hence its hash tag and slot.
local META = KEYS[1]
local PREFIX = string.sub(META, 1, -5)

local function key(kind, id)
  if id then
    return PREFIX .. kind .. ":" .. id
  end
  return PREFIX .. kind
end
