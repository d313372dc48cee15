-- Hashes as tables: read() loads one, change() notes a new value (nil removes the field), write() sends the changes.
local names, changed = {}, {}

-- A record without any field yet.
local function fresh(name)
  local record = {}
  names[record], changed[record] = name, {}
  return record
end

-- The record of this name, or nil.
local function read(name)
  local flat = redis.call("HGETALL", name)
  if #flat == 0 then return nil end
  local record = fresh(name)
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  return record
end

local function change(record, field, value)
  if record[field] ~= value then
    record[field] = value
    changed[record][field] = true
  end
end

local function write(record)
  local set, gone = {}, {}
  for field in pairs(changed[record]) do
    if record[field] == nil then
      gone[#gone + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = record[field]
    end
  end
  if #set > 0 then
    redis.call("HSET", names[record], unpack(set))
  end
  if #gone > 0 then
    redis.call("HDEL", names[record], unpack(gone))
  end
  changed[record] = {}
end
