/* The yardstick of benchmarks/arm.py: a matrix product of int8 numbers as anybody would write it.
 *
 * Compiled without vector instructions of the compiler's own making. */
void multiply(const signed char *a, const signed char *b, int *out, int rows, int depth, int columns)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            int sum = 0;
            for (int k = 0; k < depth; k++)
                sum += a[i * depth + k] * b[j * depth + k];
            out[i * columns + j] = sum;
        }
}
