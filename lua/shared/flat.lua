-- A list with the stored fields of a record, each with its value, behind what it holds.
local function with_fields(values, record)
  for field, value in pairs(record) do
    if field ~= "id" then
      values[#values + 1] = field
      values[#values + 1] = value
    end
  end
  return values
end
