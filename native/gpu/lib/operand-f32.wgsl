// Operands of a matrix product stand in workgroup memory as float32.
alias Operand = f32;
