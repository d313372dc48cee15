-- Hashes as tables: read() loads one, change() notes a new value (nil removes the field), write() sends the changes.
-- The field `id` is not among those stored.
local names, changed = {}, {}

-- A new record of these fields: write() sends all of them.
local function fresh(name, record)
  names[record] = name
  return record
end

-- The record of this name, or nil.
local function read(name)
  local flat = redis.call("HGETALL", name)
  if #flat == 0 then return nil end
  local record = {}
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  names[record], changed[record] = name, {}
  return record
end

local function change(record, field, value)
  if record[field] ~= value then
    record[field] = value
    if changed[record] then
      changed[record][field] = true
    end
  end
end

local function write(record)
  local set, gone = { names[record] }, nil
  for field in pairs(changed[record] or record) do
    if record[field] == nil then
      gone = gone or { names[record] }
      gone[#gone + 1] = field
    elseif field ~= "id" then
      set[#set + 1] = field
      set[#set + 1] = record[field]
    end
  end
  if #set > 1 then redis.call("HSET", unpack(set)) end
  if gone then redis.call("HDEL", unpack(gone)) end
  changed[record] = {}
end
