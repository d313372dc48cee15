-- Hashes as tables: read() loads one, change() notes a new value (nil removes the field), write() sends the changes.
-- The field `id` is not among those stored. What is to be sent stands in `pending`, as arguments of HSET that begin
-- with the name, and in `gone`, which has the fields that were removed. New records: new_records.lua.
local pending, gone = {}, {}

-- A record of which these fields are stored. There is room for three changes before the list of arguments grows.
local function stored_as(name, record)
  pending[record] = { name, nil, nil, nil, nil, nil, nil }
  return record
end

-- The record of this name, or nil.
local function read(name)
  local flat = redis.call("HGETALL", name)
  if #flat == 0 then return nil end
  local record = { number = nil, status = nil, start = nil, latest = nil, worker = nil } -- eight places
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  return stored_as(name, record)
end

local function change(record, field, value)
  if record[field] ~= value then
    record[field] = value
    local values = pending[record]
    if value == nil then
      gone[record] = gone[record] or {}
      table.insert(gone[record], field)
    else
      values[#values + 1] = field
      values[#values + 1] = value
    end
  end
end

local function write(record)
  local values, fields = pending[record], gone[record]
  if #values > 1 then
    redis.call("HSET", unpack(values))
    pending[record] = { values[1] }
  end
  if fields then
    gone[record] = nil
    for _, field in ipairs(fields) do -- some may have been set again
      if record[field] == nil then redis.call("HDEL", values[1], field) end
    end
  end
end
