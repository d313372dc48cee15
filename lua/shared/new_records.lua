--@include flat
--@include records
-- A new record: write() sends all of its fields. There is room for four before the list of arguments has to grow.
local function fresh(name, record)
  pending[record] = with_fields({ name, nil, nil, nil, nil, nil, nil, nil, nil }, record)
  return record
end
