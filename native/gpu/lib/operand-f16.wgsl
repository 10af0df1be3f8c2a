// Operands of a matrix product stand in workgroup memory as float16: half the traffic there. Products and sums stay float32.
enable f16;
alias Operand = f16;
