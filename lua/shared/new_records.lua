--@include records
-- A new record: write() sends all of its fields. There is room for four before the list of arguments has to grow.
local function fresh(name, record)
  local values = { name, nil, nil, nil, nil, nil, nil, nil, nil }
  for field, value in pairs(record) do
    if field ~= "id" then
      values[#values + 1] = field
      values[#values + 1] = value
    end
  end
  pending[record] = values
  return record
end
